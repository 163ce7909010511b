"""The texts of the device page, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

Texts = Mapping[str, str]

PHONE_APPS: Mapping[str, Texts] = {
    "en": {"wechat": "WeChat"},
    "zh-CN": {"wechat": "微信"},
}
"""The app on the phone that scans codes, by language and provider."""

PAGE_TEXTS: Mapping[str, Texts] = {
    "en": {
        "lang": "en",
        "title": "Sign in on your device",
        "phone": "the app that you sign in with",
        "start": "Open {phone} on your phone.",
        "scan": "Scan this code.",
        "confirm": "Check what the phone shows, and confirm.",
        "number": "On the phone, choose the number that your device shows.",
        "digits": "Confirm, then type the 4 digits of the phone on your device.",
        "ask_sentence": "Enter the code that your device shows.",
        "check_sentence": "Continue only if your own device shows this code.",
        "code_sentence": "Your device continues by itself.",
        "open_sentence": "Confirm the sign-in in the app. Your device continues by itself.",
        "scanned_sentence": "The code was scanned. Confirm on the phone.",
        "unregistered_sentence": "You have no account yet. Register, then confirm again on "
        "your phone. Your device continues by itself.",
        "done_sentence": "You are done. Continue on your device, and close this page.",
        "denied_sentence": "The sign-in was declined. Get a new code on your device.",
        "gone_sentence": "This code is unknown or has expired. Check it, or get a new one on your "
        "device.",
        "busy_sentence": "The code cannot be checked right now. Reload this page in a moment.",
        "label": "Code",
        "button": "Continue",
        "open": "Open the app",
        "register": "Register",
        "alt": "Code to scan with your phone",
    },
    "zh": {
        "lang": "zh-CN",
        "title": "在设备上登录",
        "phone": "用于登录的应用",
        "start": "在手机上打开{phone}。",
        "scan": "扫描二维码。",
        "confirm": "核对手机上显示的信息并确认。",
        "number": "在手机上选择设备显示的数字。",
        "digits": "确认登录，然后在设备上输入手机显示的 4 位数字。",
        "ask_sentence": "请输入设备上显示的代码。",
        "check_sentence": "仅当您自己的设备显示此代码时才继续。",
        "code_sentence": "设备会自动继续。",
        "open_sentence": "请在应用中确认登录，设备会自动继续。",
        "scanned_sentence": "已扫描，请在手机上确认。",
        "unregistered_sentence": "尚未注册。请先注册，然后在手机上再次确认，设备会自动继续。",
        "done_sentence": "登录完成，请回到设备继续，可以关闭本页。",
        "denied_sentence": "登录已被拒绝，请在设备上重新获取代码。",
        "gone_sentence": "代码不存在或已过期，请检查代码，或在设备上重新获取。",
        "busy_sentence": "暂时无法检查代码，请稍后刷新本页。",
        "label": "代码",
        "button": "继续",
        "open": "打开应用",
        "register": "去注册",
        "alt": "登录二维码，请用手机扫描",
    },
}
