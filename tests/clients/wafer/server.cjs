// A business server with the unmodified Wafer server SDK and express. It repeats messages of `speak`.
const express = require("express");
const bodyParser = require("body-parser");
const sdk = require("qcloud-weapp-server-sdk");

const config = JSON.parse(process.env.SITE);
sdk.config(config.sdk);

const packets = [];
const application = express();
application.use(bodyParser.json());

application.get("/login", (req, res) => {
  sdk.LoginService.create(req, res).login().catch(() => {});
});

application.get("/user", (req, res) => {
  sdk.LoginService.create(req, res)
    .check()
    .then(({ userInfo }) => res.json({ user: userInfo }))
    .catch(() => {});
});

const handler = {
  onConnect: (id) => packets.push(["connect", id]),
  onClose: (id) => packets.push(["close", id]),
  onMessage: async (id, type, content) => {
    packets.push(["message", id, type, content]);
    if (type === "speak") await sdk.TunnelService.broadcast([id, "no such tunnel"], "said", content);
  },
};

application.all("/tunnel", (req, res) => {
  const service = sdk.TunnelService.create(req, res);
  service._receiveUrl = config.receiveUrl; // ServerHost has no port
  service.handle(handler);
});

application.get("/packets", (req, res) => res.json(packets));

application.post("/push", async (req, res) => {
  const { ids, type, content } = req.body;
  const answer = await sdk.TunnelService.broadcast(ids, type, content);
  res.json(answer);
});

application.post("/end", async (req, res) => {
  res.json(await sdk.TunnelService.closeTunnel(req.body.id));
});

application.listen(config.port, "127.0.0.1");
