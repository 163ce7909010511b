// The client of the game, for the web page and the mini program: it keeps the last view of the
// server, sends acts, and computes what a page shows. Names are written by people: show them as
// text, never as markup.

const POINTS = 3;
const PICTURES = { rock: "✊", scissors: "✌️", paper: "✋" };
const REPLACED_CODES = [4004, 4100]; // the tunnel, or the person's seat, is on another page
const HARMLESS = ["ended", "replaced", "wrong_round", "already_chosen", "no_rematch"];

// openTunnel(handlers): returns a Tunnel with these handlers.  onchange(): the page has to draw
class Game {
  constructor({ openTunnel, onchange }) {
    Object.assign(this, { openTunnel, onchange, hasProblem: false });
    this.start();
  }

  // Open a tunnel: at the beginning, and to take the seat from another page.
  start() {
    Object.assign(this, { view: { version: 0, phase: "connecting" }, endsAt: 0 });
    this.tunnel = this.openTunnel({
      onopen: () => this.act({ act: "look" }),
      onmessage: (view) => this._show(view),
      onstatus: () => this.onchange(),
    });
  }

  // Send an act. The reply is the view after it.
  async act(fields) {
    this.hasProblem = false;
    try {
      this._show(await this.tunnel.send(fields));
    } catch ({ error }) {
      this.hasProblem = !HARMLESS.includes(error);
      this.onchange();
    }
  }

  choose(hand) {
    if (this.canChoose) this.act({ act: "throw", hand, round: this.view.round });
  }

  get canChoose() {
    return this.view.phase === "choosing" && !this.view.hand && this.tunnel.status === "open";
  }

  // Milliseconds until the phase ends.
  get leftMs() {
    return Math.max(0, this.endsAt - Date.now());
  }

  // Replies and pushes can overtake each other.
  _show(view) {
    if (view.version <= this.view.version) return;
    this.view = view;
    this.endsAt = Date.now() + (view.left_ms || 0);
    this.onchange();
  }

  // Everything that a page shows. say(key, values): the text of ./words.js
  draw(say) {
    const { view, tunnel } = this;
    const isEnded = tunnel.status === "ended";
    const isSignedOut = isEnded && hasNoSession(tunnel.problem);
    const isConnected = tunnel.status === "open";
    const other = view.other || { name: "", state: "" };
    const [ownPoints, otherPoints] = view.score || [0, 0];
    return {
      phase: isEnded ? "ended" : view.phase,
      result: view.phase === "over" ? view.result : view.outcome || "",
      status: this._status(say, other.name),
      hint: isEnded || tunnel.status === "away" ? "" : hintOf(view, say),
      problem: this.hasProblem && isConnected ? say("problem") : "",
      round: view.round ? say("round", { number: view.round }) : "",
      own: { ...person(view.you || "", ownPoints, say), hand: handOf(view, "own", say) },
      other: {
        ...person(other.name, otherPoints, say),
        hand: handOf(view, "other", say),
        state: ["away", "left"].includes(other.state) ? say(other.state) : "",
      },
      hands: Object.keys(PICTURES).map((hand) => (
        { hand, picture: PICTURES[hand], label: say(hand), isChosen: hand === view.hand })),
      canChoose: this.canChoose,
      shows: {
        ...shownButtons(isEnded ? {} : view), here: isEnded && !isSignedOut, signIn: isSignedOut,
      },
    };
  }

  _status(say, name) {
    const { status, problem } = this.tunnel;
    if (status === "away") return say("reconnecting");
    if (status !== "ended") return say(STATUS_OF[this.view.phase](this.view), { name });
    if (isReplaced(problem)) return say("replaced");
    return say(hasNoSession(problem) ? "signedOut" : "ended");
  }
}

// The key of the text that tells what happens, by phase.
const STATUS_OF = {
  connecting: () => "connecting",
  idle: () => "idle",
  waiting: () => "waiting",
  choosing: ({ hand, other_chosen }) => {
    if (hand) return "waitForOther";
    return other_chosen ? "yourTurn" : "choose";
  },
  revealed: ({ outcome }) => ({ won: "roundWon", lost: "roundLost", drawn: "roundDrawn" })[outcome],
  over: ({ result }) => ({ won: "matchWon", lost: "matchLost", drawn: "matchDrawn" })[result],
};

function hintOf({ phase, other, rematch, end }, say) {
  if (phase === "idle" || phase === "waiting") return say(`${phase}Hint`);
  if (phase === "choosing" && other.state === "away") return say("otherAwayHint", other);
  if (phase !== "over") return "";
  if (rematch[0]) return say("rematchWait", other);
  if (rematch[1]) return say("rematchOffer", other);
  if (other.state === "left") return say("endLeft", other);
  return end === "missed" ? say("endMissed") : "";
}

function isReplaced({ code }) {
  return REPLACED_CODES.includes(code);
}

// The backend gives no tunnel to a person who is not signed in.
function hasNoSession({ error }) {
  return Boolean(error && error.isFinal);
}

function person(name, points, say) {
  return {
    name,
    initial: [...name][0] || "?",
    points: Array.from({ length: POINTS }, (_, index) => index < points),
    pointsLabel: say("points", { count: points }),
  };
}

// A hand: its picture, a check if it is hidden, or a question mark.
function handOf(view, side, say) {
  const hand = side === "own" ? view.hand : view.other_hand;
  if (hand) return { text: PICTURES[hand], label: say(hand), state: "open" };
  if (side === "other" && view.other_chosen) return { text: "✓", label: say("hasChosen"), state: "ready" };
  if (view.round && view.phase !== "choosing") return { text: "–", label: say("noHand"), state: "" };
  return { text: "?", label: say("notChosen"), state: "" };
}

function shownButtons({ phase, other, rematch }) {
  const isOver = phase === "over";
  const isPlaying = phase === "choosing" || phase === "revealed";
  return {
    play: phase === "idle",
    again: isOver && other.state !== "left" && !rematch[0],
    next: isOver,
    cancel: phase === "waiting",
    leave: isPlaying,
    hands: isPlaying,
  };
}

export { Game };
