// The global `wx` of a mini program, over fetch and the package ws.
import WebSocket from "ws";

const storage = new Map();
const listeners = {};
let socket = null;

export const state = { person: "alice", sockets: [], requests: [] };

function request({ url, method = "GET", header = {}, data, success, fail, complete }) {
  state.requests.push(new URL(url).pathname);
  const body = data === undefined ? undefined : JSON.stringify(data);
  fetch(url, { method, headers: header, body })
    .then(async (response) => {
      const text = await response.text();
      let parsed = text;
      try {
        parsed = JSON.parse(text);
      } catch {}
      return { statusCode: response.status, data: parsed };
    })
    .then(
      (result) => success?.(result),
      (error) => fail?.({ errMsg: String(error) }),
    )
    .finally(() => complete?.());
}

function connectSocket({ url }) {
  const own = new WebSocket(url);
  socket = own;
  state.sockets.push({ url, frames: [] });
  const { frames } = state.sockets.at(-1);
  const current = () => socket === own;
  own.on("open", () => current() && listeners.Open?.({}));
  own.on("message", (data) => {
    frames.push(String(data));
    if (current()) listeners.Message?.({ data: String(data) });
  });
  own.on("close", () => current() && listeners.Close?.({}));
  own.on("error", (error) => current() && listeners.Error?.({ errMsg: String(error) }));
}

globalThis.wx = {
  login: ({ success }) => success({ code: `pretend:${state.person}` }),
  getUserInfo: ({ success }) =>
    success({ encryptedData: "AAAA", iv: "A".repeat(24), userInfo: { nickName: state.person } }),
  checkSession: ({ success }) => success(),
  getStorageSync: (key) => storage.get(key),
  setStorageSync: (key, value) => storage.set(key, value),
  removeStorageSync: (key) => storage.delete(key),
  request,
  connectSocket,
  sendSocketMessage: ({ data }) => socket.send(data),
  closeSocket: () => socket?.close(),
  onSocketOpen: (listener) => (listeners.Open = listener),
  onSocketMessage: (listener) => (listeners.Message = listener),
  onSocketClose: (listener) => (listeners.Close = listener),
  onSocketError: (listener) => (listeners.Error = listener),
};

export const cut = () => socket.terminate();

// Each SDK has one key in the storage.
export const forge = (fields) => {
  const [[key, session]] = storage;
  storage.set(key, { ...session, ...fields });
};
