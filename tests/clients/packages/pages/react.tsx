import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ScanLogin } from "@scan-login/widget/react";
import { broker, onLeave, signIn } from "./site";

const root = createRoot(document.querySelector("#app")!);
root.render(<StrictMode><ScanLogin broker={broker} app="default" onLogin={signIn} /></StrictMode>);
onLeave(() => root.unmount());
