"use client";

import { createElement, forwardRef, useEffect, useImperativeHandle, useRef } from "react";
import { EVENTS } from "./events.js";
import "./scan-login.js";

// The property of each event: `onError` for `scan-login-error`.
const HANDLERS = new Map(EVENTS.map((name) => [`on${name[0].toUpperCase()}${name.slice(1)}`, `scan-login-${name}`]));
const OWN = new Set(["onLogin", "refreshEvery", ...HANDLERS.keys()]);

/** The widget as a React component. index.d.ts and react.d.ts describe its properties. */
export const ScanLogin = forwardRef(function ScanLogin(properties, ref) {
  const element = useRef(null);
  const latest = useRef(properties);
  useImperativeHandle(ref, () => element.current);
  useEffect(() => {
    latest.current = properties;
    element.current.onlogin = properties.onLogin;
  });
  useEffect(() => listen(element.current, latest), []);
  const attributes = Object.fromEntries(Object.entries(properties).filter(([name]) => !OWN.has(name)));
  return createElement("scan-login", { ...attributes, refresh_every: properties.refreshEvery, ref: element });
});

/** Pass the events of `element` to the latest properties. Returns a function that stops this. */
function listen(element, latest) {
  const listeners = [...HANDLERS].map(([property, event]) => [event, ({ detail }) => latest.current[property]?.(detail)]);
  for (const [event, listener] of listeners) element.addEventListener(event, listener);
  return () => {
    for (const [event, listener] of listeners) element.removeEventListener(event, listener);
  };
}
