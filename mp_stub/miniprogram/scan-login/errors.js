// Why an act did not succeed.
//
//   error          the broker's word for it (docs/protocol.md), or `unreachable`: no answer came
//   message        a sentence for developers
//   retry_after    seconds after which trying again may help; absent where the broker names none
//   register_url   where somebody unregistered may register; absent where the app has no such page

class ScanLoginError extends Error {
  constructor({ error, error_description, retry_after, register_url }) {
    super(error_description);
    this.name = "ScanLoginError";
    this.error = error;
    this.retry_after = retry_after;
    this.register_url = register_url;
  }
}

function unreachable(why) {
  return new ScanLoginError({ error: "unreachable", error_description: why });
}

module.exports = { ScanLoginError, unreachable };
