// Parses a User-Agent header into names that a person knows: Chrome 126, Windows.
//
// A browser may send any header, so the result is not verified. Unknown parts are null.

// Most browsers also name the browsers below them, so the first match counts.
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
    const match = pattern.exec(userAgent);
    if (match) return `${name} ${match[1].slice(0, 4)}`;
  }
  return null;
}

function system(userAgent) {
  const match = SYSTEMS.find(([, pattern]) => pattern.test(userAgent));
  return match ? match[0] : null;
}

module.exports = { readBrowser };
