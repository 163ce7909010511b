// The outcomes of acts. The words of the pages have a title and a text for each.

// The icon of each outcome (one of WeChat's), and the text of the button "again", if there is one.
const OUTCOMES = {
  confirmed: { icon: "success" },
  registered: { icon: "success" },
  invitationOver: { icon: "waiting" },
  denied: { icon: "cancel" },
  reported: { icon: "success" },
  reportedOnly: { icon: "info" },
  expired: { icon: "waiting" },
  digitsOver: { icon: "waiting" },
  digitsWrong: { icon: "warn" },
  taken: { icon: "warn" },
  unknown: { icon: "info" },
  unregistered: { icon: "info", again: "againRegistered" },
  blocked: { icon: "warn" },
  barred: { icon: "warn" },
  mismatch: { icon: "warn" },
  over: { icon: "waiting" },
  limited: { icon: "waiting", again: "again" },
  busy: { icon: "waiting", again: "again" },
  offline: { icon: "warn", again: "again" },
  failed: { icon: "warn", again: "again" },
};

// The outcome of each error word. Other words have the outcome "failed".
const OUTCOME_OF = {
  expired_token: "expired",
  already_scanned: "taken",
  unknown_scene: "unknown",
  invalid_request: "unknown",
  unregistered_user: "unregistered",
  access_denied: "blocked",
  invalid_state: "over",
  invalid_grant: "over",
  rate_limited: "limited",
  temporarily_unavailable: "busy",
  unreachable: "offline",
};

// The outcomes of acts on sign-ins, of reports and of invitations. Other words are about a login.
const OTHER_OUTCOME_OF = {
  access_denied: "barred",
  rate_limited: "limited",
  temporarily_unavailable: "busy",
  unreachable: "offline",
};

const LOGIN_ACTS = ["scan", "confirm", "deny"];

function outcomeOf(act, error) {
  if (act === "register" && error === "invalid_grant") return "invitationOver";
  const outcomes = LOGIN_ACTS.includes(act) ? OUTCOME_OF : OTHER_OUTCOME_OF;
  return outcomes[error] || "failed";
}

// Seconds until an act can be repeated, `elapsed` milliseconds after its error.
function secondsToWait({ retry_after = 0 }, elapsed) {
  return Math.max(0, Math.ceil(retry_after - elapsed / 1000));
}

module.exports = { OUTCOMES, outcomeOf, secondsToWait };
