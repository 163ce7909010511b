import { defineComponent, h } from "vue";
import { EVENTS } from "./events.js";
import "./scan-login.js";

/** The widget as a Vue component. index.d.ts and vue.d.ts describe its properties. */
export const ScanLogin = defineComponent({
  name: "ScanLogin",
  props: {
    broker: String,
    app: String,
    lang: String,
    theme: String,
    refreshEvery: Number,
    onLogin: [Function, Array], // a property, so that the widget awaits what `@login` returns
  },
  emits: EVENTS,
  setup(properties, { emit, slots }) {
    const listeners = Object.fromEntries(
      EVENTS.map((name) => [`on:scan-login-${name}`, ({ detail }) => emit(name, detail)]),
    );
    return () => {
      const { broker, app, lang, theme, refreshEvery, onLogin } = properties;
      const handlers = [onLogin ?? []].flat();
      const onlogin = handlers.length ? (token) => Promise.all(handlers.map((handler) => handler(token))) : null;
      const attributes = { broker, app, lang, theme, refresh_every: refreshEvery };
      return h("scan-login", { ...attributes, ".onlogin": onlogin, ...listeners }, slots.default?.());
    };
  },
});
