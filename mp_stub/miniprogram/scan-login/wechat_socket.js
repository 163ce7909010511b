// WebSockets of WeChat with the interface of a browser's WebSocket.

function connectSocket(url) {
  const task = wx.connectSocket({ url });
  const socket = { send: (data) => task.send({ data }), close: () => task.close({}) };
  task.onOpen(() => socket.onopen());
  task.onMessage((event) => socket.onmessage(event));
  task.onClose((event) => socket.onclose(event));
  task.onError((event) => socket.onerror(event));
  return socket;
}

module.exports = { connectSocket };
