"use strict";

const login = document.querySelector("scan-login");

// The token goes to our own server, which checks it and answers with our own session cookie.
// Throwing here makes the element say that it did not work and offer another try.
login.onlogin = async (token) => {
  const response = await fetch("/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ access_token: token.access_token }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error_description);
  location.assign(answer.next);
};

// For the demo only: a link that plays the phone for the code on the screen.
const phone = document.querySelector("#phone");
if (phone.dataset.url) {
  login.addEventListener("scan-login-begun", (event) => {
    const url = new URL(phone.dataset.url, location.href);
    url.searchParams.set("scene", event.detail.scene);
    phone.href = url.href;
    phone.hidden = false;
  });
  for (const ended of ["token", "denied", "expired", "error"]) {
    login.addEventListener(`scan-login-${ended}`, () => { phone.hidden = true; });
  }
}
