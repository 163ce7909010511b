// What the pages have in common: the site behind them, and a button that removes the widget.
import type { ScanLoginToken } from "@scan-login/widget";

export const broker = document.body.dataset.broker!;

export async function signIn({ access_token, subject }: ScanLoginToken): Promise<void> {
  const response = await fetch("/session", { method: "POST", body: access_token });
  if (!response.ok) throw new Error("the site refuses the token");
  document.querySelector("h1")!.textContent = subject;
}

export function onLeave(leave: () => void): void {
  document.querySelector("#leave")!.addEventListener("click", leave);
}
