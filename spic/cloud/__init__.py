"""The cloud half as an HTTP service: streams in, answers out (spic.protocol). It never sees a picture.

    command     `spic cloud`: arguments, and what they must not be
    limits      how much of anything is taken
    served      an operating point, ready to answer       batches   requests of one point, answered together
    service     one stream: read, counted, answered once  answers   repeated requests get the answer of the first
    app         the paths                                 gate      token, hosts, headers: before any path is looked at
    connection  time and number of connections            server    uvicorn around it all
    page        what arrives, for a person                openapi, metrics
"""
