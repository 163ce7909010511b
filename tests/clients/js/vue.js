// A Vue 3 page. Its handler, bound as the query names it, sends the token to the site.
import { createApp } from "vue/dist/vue.esm-bundler.js";
import { signIn } from "./site.js";

const binding = new URLSearchParams(location.search).get("binding") ?? ":onlogin";

const app = createApp({
  template: `<scan-login :broker="broker" ${binding}="enter"></scan-login><h1>{{ subject }}</h1>`,
  data: () => ({ broker: window.BROKER, subject: "" }),
  methods: {
    async enter(token) {
      this.subject = await signIn(token);
    },
  },
});
app.config.compilerOptions.isCustomElement = (tag) => tag === "scan-login";
app.mount("#app");
