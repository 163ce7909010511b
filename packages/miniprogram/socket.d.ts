import type { Wire } from "./index";

/** A wire over Socket.IO. */
export declare function overSocket(broker: string): Wire;

/** A socket of the official client, in a namespace of the broker such as `/chat`. */
export declare function openSocket(broker: string, namespace: string, options?: object): unknown;
