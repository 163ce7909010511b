"""The texts of the provider's pages, in English and Chinese.

`{app}` is the name of the app, `{phone}` the name of the phone's app, `{host}` of the broker.
"""

from __future__ import annotations

from collections.abc import Mapping

Texts = Mapping[str, str]

PHONE_APPS: Mapping[str, Texts] = {
    "en": {"wechat": "WeChat"},
    "zh": {"wechat": "微信"},
}
"""The app on the phone that scans codes, by provider."""

SCOPE_TEXTS: Mapping[str, Texts] = {
    "en": {
        "openid": "your user ID",
        "profile": "your name and profile",
        "email": "your e-mail address",
        "phone": "your phone number",
        "groups": "the groups you belong to",
        "offline_access": "access until you end it",
    },
    "zh": {
        "openid": "用户标识",
        "profile": "姓名和个人资料",
        "email": "电子邮箱",
        "phone": "手机号码",
        "groups": "所属用户组",
        "offline_access": "持续访问，直到取消为止",
    },
}

SIGN_IN_TEXTS: Mapping[str, Texts] = {
    "en": {
        "lang": "en",
        "title": "Sign in to {app}",
        "open": "Open {phone} on your phone.",
        "open_any": "Open the app that you sign in with on your phone.",
        "scan": "Scan the code on this screen.",
        "confirm": "Check what the phone shows, and confirm. This page continues by itself.",
        "receives": "{app} receives",
        "nothing": "no personal data",
        "cancel": "Cancel and return to {app}",
        "hint": "{app} asks for the account {hint}.",
        "handset": "Is this page on your phone? A phone cannot scan its own screen. Open the app "
        "with the button. If there is no button, open {app} on a computer or tablet.",
        "noscript": "This page needs JavaScript to show the code. Allow it, then reload the page.",
        "pretend": "Pretend to be the phone",
        "address": "You sign in at {host}. Check that the address bar shows this name.",
    },
    "zh": {
        "lang": "zh-CN",
        "title": "登录 {app}",
        "open": "在手机上打开{phone}。",
        "open_any": "在手机上打开用于登录的应用。",
        "scan": "扫描屏幕上的二维码。",
        "confirm": "核对手机上显示的信息并确认，本页会自动继续。",
        "receives": "{app} 将获得",
        "nothing": "不获取个人信息",
        "cancel": "取消并返回 {app}",
        "hint": "{app} 请求登录的账号：{hint}",
        "handset": "正在用手机浏览本页？手机无法扫描自己的屏幕，请用按钮打开应用。"
        "没有按钮时，请在电脑或平板上打开 {app}。",
        "noscript": "显示二维码需要 JavaScript，请允许后刷新本页。",
        "pretend": "使用模拟手机扫码",
        "address": "当前登录地址为 {host}，请确认与地址栏一致。",
    },
}

FORM_POST_TEXTS: Mapping[str, Texts] = {
    "en": {"lang": "en", "title": "Returning to {app}…", "button": "Continue to {app}"},
    "zh": {"lang": "zh-CN", "title": "正在返回 {app}…", "button": "继续前往 {app}"},
}

MESSAGES: Mapping[str, Mapping[str, Texts]] = {
    "en": {
        "error": {
            "lang": "en",
            "title": "This sign-in request is not valid",
            "sentence": "Go back to the site and sign in again. If this page appears again, send "
            "the text below to the site's administrator.",
        },
        "busy": {
            "lang": "en",
            "title": "Sign-in is busy",
            "sentence": "Wait a moment, then reload this page.",
        },
        "restart": {
            "lang": "en",
            "title": "This sign-in has ended",
            "sentence": "It was completed, it has expired, or another browser began it. Start "
            "again at the site.",
            "link": "Go to {app}",
        },
        "foreign": {
            "lang": "en",
            "title": "The sign-in was stopped",
            "sentence": "Another site sent this sign-in, or your browser blocks cookies. Start "
            "again at the site that you want to use.",
        },
        "logout": {
            "lang": "en",
            "title": "Sign out?",
            "sentence": "You are signed in at {host}. After you sign out, sites that use this "
            "sign-in ask you to sign in again.",
            "button": "Sign out",
        },
        "signed_out": {
            "lang": "en",
            "title": "You are signed out",
            "sentence": "This browser is no longer signed in at {host}.",
            "link": "Go to {app}",
        },
    },
    "zh": {
        "error": {
            "lang": "zh-CN",
            "title": "登录请求无效",
            "sentence": "请返回网站重新登录。如果再次出现本页，请把以下内容发给网站管理员。",
        },
        "busy": {
            "lang": "zh-CN",
            "title": "登录繁忙",
            "sentence": "请稍后刷新本页。",
        },
        "restart": {
            "lang": "zh-CN",
            "title": "本次登录已结束",
            "sentence": "登录可能已完成、已过期，或由其他浏览器发起。请回到网站重新开始。",
            "link": "前往 {app}",
        },
        "foreign": {
            "lang": "zh-CN",
            "title": "登录已停止",
            "sentence": "登录由其他网站提交，或浏览器禁用了 Cookie。请回到要使用的网站重新登录。",
        },
        "logout": {
            "lang": "zh-CN",
            "title": "退出登录？",
            "sentence": "当前已在 {host} 登录，退出后，相关网站会要求重新登录。",
            "button": "退出登录",
        },
        "signed_out": {
            "lang": "zh-CN",
            "title": "已退出登录",
            "sentence": "本浏览器在 {host} 的登录已结束。",
            "link": "前往 {app}",
        },
    },
}
