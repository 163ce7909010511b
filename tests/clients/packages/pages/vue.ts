import { createApp } from "vue";
import SignIn from "./SignIn.vue";
import { onLeave } from "./site";

const app = createApp(SignIn);
app.mount("#app");
onLeave(() => app.unmount());
