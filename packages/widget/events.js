// The events of the widget that the wrappers pass on, without the prefix `scan-login-`.
export const EVENTS = ["begun", "scanned", "unregistered", "denied", "expired", "offline", "online", "error"];
