/** A WebSocket of WeChat with the interface of a browser's WebSocket. */
export declare function connectSocket(url: string): unknown;
