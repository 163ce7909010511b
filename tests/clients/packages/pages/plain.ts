import "@scan-login/widget";
import { onLeave, signIn } from "./site";

const widget = document.querySelector("scan-login")!;
widget.onlogin = signIn;
onLeave(() => widget.remove());
