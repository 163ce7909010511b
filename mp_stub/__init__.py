"""A simulated phone, for development and tests.

    phone.py       Phone, the phone of one test person, for Python code
    transport.py   sends its acts to the broker over HTTP or Socket.IO
    phone_page.py  the web page of the phone, and its server
    pages/         the files of that page
    wechat/        a WeChat stub, for a broker with the provider `wechat`
    user_agent.py  names the browser and the system of a User-Agent header
    miniprogram/   a WeChat mini program, for WeChat's developer tools
    __main__.py    the phone as a command: python -m mp_stub

The package does not import the broker. It uses the documented protocol only.
"""
