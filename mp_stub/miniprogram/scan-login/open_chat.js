// Connects to the broker's chat with the session of the phone.
//
//     const chat = openChat(phone);        // phone: a ScanLogin
//     chat.join(chat.room("lobby"));       // chat.js describes the chat

import { Chat } from "./chat";
import { openSocket } from "./socket";

// options: further options of Chat, such as `nickname`.
export function openChat(phone, options) {
  let session;
  return new Chat(Object.assign({
    open: (auth) => openSocket(phone.broker, "/chat", { auth }),
    credentials: async (isRefused) => {
      session = await phone.session(isRefused ? session : undefined);
      return session;
    },
  }, options));
}
