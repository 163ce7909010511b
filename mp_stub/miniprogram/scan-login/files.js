// Uploads and downloads files of the person with this phone.
//
//     const files = require("./scan-login/files");
//
//     const { file_id, url } = await files.upload(tempFilePath, { purpose: "avatar" });
//     const path = await files.download(file_id);
//
// Each function takes a ScanLogin as its last argument; the default is that of `configure`. It
// rejects with a ScanLoginError.

const { ScanLoginError, unreachable } = require("./errors");
const { request } = require("./http");
const { configured } = require("./index");

const TRANSFER_TIMEOUT_MS = 60_000;

// Upload a file of the phone, for example of wx.chooseMedia. Resolves with
// {file_id, size, media_type, sha256, url, expires_in}. The url is valid for expires_in seconds.
//   purpose: a word for your server.  sha256: of the content, in hexadecimal; the broker compares it
function upload(filePath, { purpose, sha256 } = {}, phone = configured()) {
  const formData = Object.assign({}, purpose && { purpose }, sha256 && { sha256 });
  return inSession(phone, (session) => send(`${phone.broker}/files`, filePath, formData, session));
}

// Download one of the person's files. Resolves with the path of a temporary file.
function download(file_id, phone = configured()) {
  return inSession(phone, (session) => receive(pathOf(phone, file_id), session));
}

// Describe one of the person's files. Resolves with the result of `upload` with a fresh url, and
// {purpose?, name?, owner: {openid, subject?}, created_at}.
function describe(file_id, phone = configured()) {
  const url = `${pathOf(phone, file_id)}/meta`;
  return inSession(phone, (session) => request("GET", url, { session }));
}

// Delete one of the person's files.
function remove(file_id, phone = configured()) {
  return inSession(phone, (session) => request("DELETE", pathOf(phone, file_id), { session }));
}

function pathOf(phone, file_id) {
  return `${phone.broker}/files/${encodeURIComponent(file_id)}`;
}

// If the broker does not know the session, open a new one and send again, once.
async function inSession(phone, act) {
  const session = await phone.session();
  try {
    return await act(session);
  } catch (failure) {
    if (failure.error !== "invalid_session") throw failure;
  }
  return act(await phone.session(session));
}

function send(url, filePath, formData, session) {
  return new Promise((resolve, reject) => {
    wx.uploadFile({
      url,
      filePath,
      name: "file",
      formData,
      header: headerOf(session),
      timeout: TRANSFER_TIMEOUT_MS,
      success: ({ statusCode, data }) => {
        const answer = parsed(data); // the data of wx.uploadFile is text
        if (answer && answer.error) reject(new ScanLoginError(answer));
        else if (statusCode === 201 && answer) resolve(answer);
        else reject(unreachable(`HTTP ${statusCode}, not an answer of a broker`));
      },
      fail: ({ errMsg }) => reject(unreachable(errMsg)),
    });
  });
}

function receive(url, session) {
  return new Promise((resolve, reject) => {
    wx.downloadFile({
      url,
      header: headerOf(session),
      timeout: TRANSFER_TIMEOUT_MS,
      success: ({ statusCode, tempFilePath }) => {
        if (statusCode === 200) resolve(tempFilePath);
        else reject(refusal(statusCode)); // the temporary file has the error
      },
      fail: ({ errMsg }) => reject(unreachable(errMsg)),
    });
  });
}

function refusal(statusCode) {
  const error = { 401: "invalid_session", 404: "unknown_file" }[statusCode];
  const error_description = `HTTP ${statusCode}`;
  return error ? new ScanLoginError({ error, error_description }) : unreachable(error_description);
}

function headerOf(session) {
  return { Authorization: `Bearer ${session.id}.${session.skey}` };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    return null; // the page of a proxy
  }
}

module.exports = { describe, download, remove, upload };
