"""The part of start-dev.sh that is easier to get right in Python.

::

    cli           the modes: foreground, background, demo, stop
    background    the supervisor as a process of its own, watched until all is healthy
    supervisor    starts the components, watches them, ends everything
    components    which there are, their command lines, how to tell that one is up
    settings      airflow.cfg, secrets, ports, environment, database
    demo          runs the example DAG over the REST API
    rest          the few HTTP calls
    state         what runs here: .airflow/start-dev.json
    terminal      output: lines, prefixes, colours

Making the virtual environment is not here: start-dev.sh does it. Standard library and this project only.
"""
