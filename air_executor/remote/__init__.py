"""A home that is reached over HTTP, from the client's side: the other end of `air_executor.http`.

=============  =======================================================================
`address`      where the API is, and whether it may be spoken to there. Pure
`patience`     when a request is made again. Pure
`answers`      from an answer to the objects and errors that the core has. Pure
`requests`     from a job to what is sent. Pure
`transport`    one request: TLS, token, time limits, tries
`client`       `RemoteClient`: the methods of `AirExecutorClient`
`watch`        the ends of many runs, with one request for all
`listener`     ends of runs that are not known yet
=============  =======================================================================

It needs httpx (extra `api`, and Airflow brings it), which is imported when the first request is made.
"""
