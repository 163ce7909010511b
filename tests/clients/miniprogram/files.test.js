// Files of the mini program, against a running broker.
"use strict";

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { PretendPhone, call } = require("./pretend-phone");
const { ACCOUNT, closeAll, config, open, shown, tap } = require("./simulator");

const ROOT = path.resolve(__dirname, "../../../mp_stub/miniprogram");
const files = require(`${ROOT}/scan-login/files`);
const { configure } = require(`${ROOT}/scan-login/index`);

const { BROKER } = process.env;

// A picture of one pixel.
const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

let people = 0;
let phone;
let folder;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "phone-"));
  Object.assign(config, { broker: BROKER, app: "default", proof: null });
  jest.spyOn(console, "warn").mockImplementation(() => {});
  phone = new PretendPhone(`person-${people += 1}`);
  global.wx = phone.wx;
  configure(config);
});

afterEach(() => {
  closeAll();
  fs.rmSync(folder, { recursive: true });
});

function fileOf(content, name = "picture.png") {
  const file = path.join(folder, name);
  fs.writeFileSync(file, content);
  return file;
}

describe("library", () => {
  test("an uploaded file is downloaded", async () => {
    const { file_id, media_type, size } = await files.upload(fileOf(PNG), { purpose: "avatar" });

    expect({ media_type, size }).toEqual({ media_type: "image/png", size: PNG.length });
    expect(fs.readFileSync(await files.download(file_id))).toEqual(PNG);
  });

  test("a file is described until it is removed", async () => {
    const { file_id } = await files.upload(fileOf(PNG), { purpose: "avatar" });

    expect(await files.describe(file_id)).toMatchObject({ name: "picture.png", purpose: "avatar" });

    await files.remove(file_id);
    await expect(files.describe(file_id)).rejects.toMatchObject({ error: "unknown_file" });
    await expect(files.download(file_id)).rejects.toMatchObject({ error: "unknown_file" });
  });

  test("a refused file rejects with the error of the broker", async () => {
    const upload = files.upload(fileOf("<svg/>"));

    await expect(upload).rejects.toMatchObject({ error: "unsupported_media_type" });
  });

  test("an ended session is replaced", async () => {
    const ended = await configure(config).session();
    const header = { Authorization: `Bearer ${ended.id}.${ended.skey}` };
    await call({ url: `${BROKER}/phone/session`, method: "DELETE", header });

    expect((await files.upload(fileOf(PNG))).file_id).toHaveLength(22);
  });

  test("a phone without a network rejects", async () => {
    await configure(config).session();
    phone.isOnline = false;

    await expect(files.upload(fileOf(PNG))).rejects.toMatchObject({ error: "unreachable" });
  });
});

describe("page of the account", () => {
  test("a chosen picture is uploaded and shown", async () => {
    phone.chosen = fileOf(PNG);
    const page = open(ACCOUNT);
    await shown(page, "Choose a picture");

    await tap(page, "choose");

    await shown(page, () => page.querySelector("#picture"));
    expect(page.instance.data.picture).toMatch(/\/files\/[\w-]{22}\?t=/);
  });

  test("a refused picture shows why", async () => {
    phone.chosen = fileOf("<svg/>");
    const page = open(ACCOUNT);

    await tap(page, "choose");

    await shown(page, "This picture cannot be used");
    expect(page.querySelector("#picture")).toBeFalsy();
  });
});
