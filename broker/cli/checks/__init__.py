"""The checks of `scan-login doctor`.

model.py         a check, its result, and the installation that is checked
table.py         all checks in their order
settings.py      values of the settings
public_url.py    name, TLS, WebSocket and client address at the public URL
state.py         state, bus and clocks
records.py       database and seal keys
keys.py          signing keys
owners.py        owners of the files
provider.py      providers of the apps, and pools
files.py         store of files, and virus scanner
webhooks.py      servers of sites that the broker calls
discovery.py     metadata and key set at the public URL

A check returns what it has found, or raises `Failed` or `Warned`, with a fix if not every fault of
the check has the same. A check that cannot tell more than another one raises `Skipped`.
"""
