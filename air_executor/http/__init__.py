"""The HTTP API of a home: `air-executor serve`. A run is a job; everything is read from and written to the home.

==============  =====================================================================
`server`        from settings to a process that serves: sockets, TLS, signals
`app`           the routes put together, and the document that describes them
`guard`         what every request goes through: its size, its time, its line in the log
`access`        whose a request is: tokens, scopes, rate limits
`limits`        how often somebody may ask; pure
`tokens`        tokens in files
`problems`      every refusal, as one kind of answer
`shapes`        what requests and answers look like
`service`       what all requests share
`asked`         from the body of a request to a job
`idempotency`   one run for one Idempotency-Key
`views`         what is told of runs, pipelines and queues
`runs`          routes: runs, what they came to, what there is to do about them
`logs`          routes: what tasks wrote
`ends`          routes: ends of runs, for those who follow them
`places`        routes: pipelines, queues, health
`programs`      routes: many runs at once, and what a pipeline would run, for our own client
==============  =====================================================================

Only this package imports FastAPI, Starlette, pydantic and uvicorn, and of it only `tokens` and `limits` are to be
imported by what shall load without them.
"""
