"use strict";

const login = document.querySelector("scan-login");

// Send the token to this site's server, which verifies it and sets the session cookie.
// If this function throws, the element shows an error and a button to try again.
login.onlogin = async (token) => {
  const response = await fetch("/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ access_token: token.access_token }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error_description);
  // The pages /chat and /game show the sign-in under their own URLs.
  if (["/chat", "/game"].includes(location.pathname)) location.reload();
  else location.assign(answer.next);
};

// For development: a link that opens the code on the screen in the phone page.
const phone = document.querySelector("#phone");
if (phone.dataset.url) {
  login.addEventListener("scan-login-begun", (event) => {
    const url = new URL(phone.dataset.url, location.href);
    url.searchParams.set("scene", event.detail.scene);
    phone.href = url.href;
    phone.hidden = false;
  });
  for (const name of ["token", "denied", "expired", "error"]) {
    login.addEventListener(`scan-login-${name}`, () => { phone.hidden = true; });
  }
}
