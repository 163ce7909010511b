// Formats of browsers and times, in the language of WeChat.

const { readBrowser } = require("../browsers");
const { say } = require("./words");

function browserName(userAgent) {
  const { program, system } = readBrowser(userAgent);
  if (program && system) return say("browserOn", { program, system });
  return program || system || userAgent.slice(0, 80) || say("unknown");
}

function timeAgo(seconds) {
  if (seconds < 5) return say("justNow");
  if (seconds < 60) return say("secondsAgo", { count: seconds });
  return say("minutesAgo", { count: Math.floor(seconds / 60) });
}

function formatTime(date) {
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":");
}

function formatMinute(date) {
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map(twoDigits).join("-");
  return `${day} ${formatTime(date).slice(0, -3)}`;
}

function duration(seconds) {
  return `${Math.floor(seconds / 60)}:${twoDigits(seconds % 60)}`;
}

function twoDigits(number) {
  return String(number).padStart(2, "0");
}

module.exports = { browserName, duration, formatMinute, formatTime, timeAgo };
