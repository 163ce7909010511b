// The error of an act.
//
//   error          the error word of the broker (docs/protocol.md), or `unreachable` without an answer
//   message        a description for developers
//   retry_after    seconds until the next attempt, if the broker sent them
//   register_url   the page where an unknown person can register, if the app has one

class ScanLoginError extends Error {
  constructor({ error, error_description, retry_after, register_url }) {
    super(error_description);
    this.name = "ScanLoginError";
    this.error = error;
    this.retry_after = retry_after;
    this.register_url = register_url;
  }
}

function unreachable(reason) {
  return new ScanLoginError({ error: "unreachable", error_description: reason });
}

module.exports = { ScanLoginError, unreachable };
