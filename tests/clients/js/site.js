// What both pages do with a token: send it to the site's own server, which may refuse it.

export async function signIn({ access_token, subject }) {
  const response = await fetch("/session", { method: "POST", body: access_token });
  if (!response.ok) throw new Error("the site refuses the token");
  return subject;
}
