// Uses of the types. A line after `@ts-expect-error` must be an error.
import { configure, howScanned, sceneInScan, type ScanLogin, type ScanLoginError } from "@scan-login/miniprogram";
import * as files from "@scan-login/miniprogram/files";
import { openChat } from "@scan-login/miniprogram/open_chat";
import { overSocket } from "@scan-login/miniprogram/socket";
import { Tunnel } from "@scan-login/miniprogram/tunnel";
import { connectSocket } from "@scan-login/miniprogram/wechat_socket";

const phone: ScanLogin = configure({ broker: "https://login.example", wire: overSocket });

Page({
  async onLoad({ scene = "" }) {
    const { app, browser, login_id, match } = await phone.scan(scene, howScanned(scene));
    this.setData({ site: app.name, address: browser.ip, choices: match?.kind === "number" ? match.choices : [] });
    await phone.confirm(login_id).catch(({ error, retry_after }: ScanLoginError) => [error.length, retry_after]);
  },
});
wx.scanCode({ success: (seen) => sceneInScan(seen).length });

const chat = openChat(phone, { nickname: "Al" });
chat.onchange = (what, room) => [what.length, room?.messages.length];
chat.send(chat.room("lobby"), { text: "hello" });
const tunnel = new Tunnel({
  connect: connectSocket,
  create: async () => ({ url: "wss://login.example/tunnel/t" }),
  onopen: ({ recovered }) => recovered,
  onmessage: (data) => data,
  onstatus: (status, problem) => [status.length, problem?.code],
});
tunnel.send({ act: "play" });
files.upload("wxfile://a.png", { purpose: "avatar" }).then(({ file_id }) => files.describe(file_id));
files.download("id", phone).then((path) => path.length);
// @ts-expect-error the broker is required
configure({ app: "default" });
// @ts-expect-error a session has no such field
phone.session().then(({ session_key }) => session_key);
