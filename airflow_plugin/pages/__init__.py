"""The page "Air-Executor" in Airflow: what the API server answers about runners, queues and jobs.

==============  ===============================================================
`app`           the routes; each names the right that it demands
`access`        who may see and do what, asked of Airflow's auth manager
`doorway`       what all requests and answers have in common: headers, refusals
`lookout`       what is going on in the home, looked at once for all who ask
`readings`      what was read of large jobs, for all who ask
`facts`         what is said of it; with the core's `told` the one place that decides what is served
`documents`     the HTML document and what it loads, which are in `static/`
==============  ===============================================================

Importing this package is cheap; the app is imported with the first request.
"""
