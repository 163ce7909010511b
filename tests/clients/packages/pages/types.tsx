// Uses of the types. A line after `@ts-expect-error` must be an error.
import "@scan-login/widget";
import { ScanLogin, type ScanLoginElement, type ScanLoginError } from "@scan-login/widget/react";
import { createRef } from "react";

const widget: ScanLoginElement = document.createElement("scan-login");
widget.refresh();
widget.onlogin = async ({ access_token, expires_in }) => [access_token.length, expires_in.toFixed()];
widget.addEventListener("login", (event) => event.waitUntil(Promise.resolve(event.subject)));
widget.addEventListener("scan-login-error", ({ detail: { error } }) => console.warn(error.length));
widget.addEventListener("click", (event) => event.clientX);
document.addEventListener("scan-login-token", (event) => event.access_token.length);
// @ts-expect-error a handler is a function
widget.onlogin = "signIn()";
// @ts-expect-error a token has no such field
widget.onlogin = ({ secret }) => secret;

export function Page() {
  const reference = createRef<ScanLoginElement>();
  const report = ({ error }: ScanLoginError) => console.warn(error);
  return (
    <>
      <ScanLogin ref={reference} broker="/" theme="dark" refreshEvery={60} onLogin={() => {}} onError={report} />
      <scan-login broker="/" refresh_every={60} onlogin={async (event) => event.access_token} />
      {/* @ts-expect-error onLogin is required */}
      <ScanLogin broker="/" />
      {/* @ts-expect-error another theme */}
      <scan-login broker="/" theme="blue" />
    </>
  );
}
