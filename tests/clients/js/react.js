// A React 19 page: a function component whose handler sends the token to the site.
import { createElement, useState } from "react";
import { createRoot } from "react-dom/client";
import { signIn } from "./site.js";

function SignIn() {
  const [subject, setSubject] = useState("");
  const onlogin = async (token) => setSubject(await signIn(token));
  return [
    createElement("scan-login", { key: "widget", broker: window.BROKER, onlogin }),
    createElement("h1", { key: "subject" }, subject),
  ];
}

createRoot(document.getElementById("app")).render(createElement(SignIn));
