import type { Chat, ChatOptions } from "./chat";
import type { ScanLogin } from "./index";

/** Connect to the chat with the session of the phone. */
export declare function openChat(phone: ScanLogin, options?: Pick<ChatOptions, "nickname">): Chat;
