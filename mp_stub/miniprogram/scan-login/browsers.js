// Reads a User-Agent the way a person would say it: Chrome 126, Windows.
//
// The string is whatever the browser claims.  Known names come out short; where nothing is
// recognised there is null.

// Most browsers also claim to be those below them, so the first match counts.
const PROGRAMS = [
  ["WeChat", /MicroMessenger\/(\d+)/],
  ["Edge", /Edg(?:e|A|iOS)?\/(\d+)/],
  ["Opera", /OPR\/(\d+)/],
  ["Samsung Internet", /SamsungBrowser\/(\d+)/],
  ["Firefox", /(?:Firefox|FxiOS)\/(\d+)/],
  ["Chrome", /(?:HeadlessChrome|Chrome|CriOS)\/(\d+)/],
  ["Safari", /Version\/(\d+)[\d.]* (?:Mobile\/\w+ )?Safari\//],
];
const SYSTEMS = [
  ["Android", /Android/],
  ["iPhone", /iPhone/],
  ["iPad", /iPad/],
  ["Windows", /Windows NT/],
  ["macOS", /Macintosh/],
  ["ChromeOS", /CrOS/],
  ["Linux", /Linux/],
];

function readBrowser(userAgent) {
  return { program: program(userAgent), system: system(userAgent) };
}

function program(userAgent) {
  for (const [name, pattern] of PROGRAMS) {
    const found = pattern.exec(userAgent);
    if (found) return `${name} ${found[1].slice(0, 4)}`;
  }
  return null;
}

function system(userAgent) {
  const found = SYSTEMS.find(([, pattern]) => pattern.test(userAgent));
  return found ? found[0] : null;
}

module.exports = { readBrowser };
