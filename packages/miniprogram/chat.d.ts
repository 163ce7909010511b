export interface ChatOptions {
  /** Returns a Socket.IO socket of the namespace `/chat`. */
  open: (auth: unknown) => unknown;
  /** isRefused: the broker does not know the last credentials. */
  credentials: (isRefused: boolean) => Promise<object>;
  resume?: string;
  nickname?: string;
  onresume?: (resume: string) => void;
}

export interface Person {
  subject: string;
  name?: string;
  nickname?: string;
}

export interface Message {
  offset: number;
  id: string;
  from: Person;
  /** Unix time in seconds. */
  at: number;
  text?: string;
  data?: unknown;
  isDeleted?: boolean;
}

export interface PendingMessage {
  id: string;
  text?: string;
  data?: unknown;
  state: "waiting" | "stored" | "failed";
  error?: ChatError;
}

export declare class Room {
  readonly name: string;
  readonly to: string | null;
  readonly self: string;
  readonly title: string | null;
  readonly messages: Message[];
  readonly pending: PendingMessage[];
  readonly members: Map<string, Person & { online: boolean }>;
  readonly online: number;
  readonly may: string[];
  readonly unread: number;
  readonly typists: string[];
  readonly isJoined: boolean;
  readonly hasMore: boolean;
  readonly mutedUntil: number;
  readonly problem: { error: string; retry_after?: number } | null;
}

/** A failed request. error: a word of the broker's protocol, or `unreachable`. */
export declare class ChatError extends Error {
  error: string;
  retry_after?: number;
}

export type Change = "status" | "room" | "messages" | "members" | "typing" | "conversations";

export declare class Chat {
  constructor(options: ChatOptions);
  readonly status: "connecting" | "online" | "offline" | "ended";
  readonly problem: { error: string; error_description?: string } | null;
  readonly me: { subject: string; name: string | null } | null;
  /** room: null if the change concerns all. */
  onchange: (what: Change, room: Room | null) => void;
  room(name: string): Room;
  conversation(subject: string): Room;
  join(room: Room): void;
  leave(room: Room): void;
  send(room: Room, content: { text?: string; data?: unknown }): void;
  repeat(room: Room, message: PendingMessage): void;
  discard(room: Room, message: PendingMessage): void;
  history(room: Room): Promise<void>;
  read(room: Room): void;
  typing(room: Room, on: boolean): void;
  delete(room: Room, message: { offset: number }): Promise<unknown>;
  mute(room: Room, subject: string, seconds: number): Promise<unknown>;
  kick(room: Room, subject: string, seconds: number): Promise<unknown>;
  rename(nickname: string): void;
  close(): void;
}
