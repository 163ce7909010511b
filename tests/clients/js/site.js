// Sends the token to the site's server, which may refuse it.

export async function signIn({ access_token, subject }) {
  const response = await fetch("/session", { method: "POST", body: access_token });
  if (!response.ok) throw new Error("the site refuses the token");
  return subject;
}
