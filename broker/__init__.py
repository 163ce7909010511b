"""A scan-login broker: a code on a screen, a tap on a phone, a token in the browser.

The map of the house.  A file is a noun; a folder is a family of files that can
replace one another, or that speak to the same outside.

    login.py       the rule book: what a login is, which changes it allows
    flow.py        one login, start to finish: begin scan confirm deny redeem resume cancel
    lobby.py       the browsers that wait at this instance, and what wakes them
    codes.py       the code on a login's screen: drawn for it, or lent by the pool
    accounts.py    which provider an app has
    sessions.py    who holds the phone, and until when
    tokens.py      the JWTs, their keys, the key set
    state/         what lives minutes                memory redis
    bus/           tells an instance that a login has changed        memory redis
    redis_link/    the one door to Redis: connections, Sentinel, Cluster, scripts
    records/       what outlives a restart           settings sql
    pictures.py    keeps the pictures of codes        images.py   whether one is whole
    pool/          codes drawn ahead of time
    providers/     draw codes and prove who holds the phone          pretend wechat
    directories/   who an identity is here           open sql http, and shared in front
    breaker.py     leaves a server that fails alone  egress.py       where requests may go
    engine/        what carries python-socketio      own stock
    edge/          the wire: read, call one method, answer
    limits.py      rate limits and fair queues, per client
    sources.py     where settings come from           urls.py   URLs with passwords
    settings.py    every setting       errors.py   everything that can go wrong
    logs.py        log lines, written by a separate thread
    monitor.py     compares this instance with its state and the other instances
    background.py  restarts background tasks that fail
    metrics.py     what the operator counts        private_file.py   files for their owner alone
    parts.py       makes all of these, as the settings want them
    app.py         joins parts and edges into one application
    process.py     loop, files and memory of a process that serves
    listening.py   sockets that listen
    serving.py     listens until told to stop       workers.py  several processes on one port
    demo/          broker, example site and phone page in one go
    __main__.py    the `scan-login` command        commands/   its parts: app, pool, records, user

One login flows in one direction: edge → flow → login → state → bus → lobby → edge.
"""

__version__ = "0.1.0"
