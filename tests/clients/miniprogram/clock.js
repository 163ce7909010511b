// The clock of the pages. Only a test moves it: the result of a tap depends on the time since a
// view appeared, and a busy machine must not change that time.
"use strict";

const DOUBLE_TAP_SECONDS = 0.45; // the pages ignore taps for 0.4 s after a view appears

// The simulator, the sockets and the waits of tests keep real timeouts.
const REAL = [
  "cancelAnimationFrame", "cancelIdleCallback", "clearImmediate", "clearTimeout", "hrtime", "nextTick",
  "performance", "queueMicrotask", "requestAnimationFrame", "requestIdleCallback", "setImmediate",
  "setTimeout",
];

function stopClock() {
  jest.useFakeTimers({ doNotFake: REAL });
}

// Move the clock. The pages update their countdowns once a second.
function pass(seconds) {
  jest.advanceTimersByTime(seconds * 1000);
}

function passDoubleTap() {
  pass(DOUBLE_TAP_SECONDS);
}

module.exports = { pass, passDoubleTap, stopClock };
