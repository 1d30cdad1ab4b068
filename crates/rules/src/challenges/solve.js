(async () => {
  "use strict";
  const place = document.querySelector("[data-altcha]");
  const { algorithm, challenge, maxnumber, salt, signature } = JSON.parse(place.dataset.altcha);
  const encoder = new TextEncoder();
  const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const STEP = 500;
  for (let start = 0; start <= maxnumber; start += STEP) {
    const numbers = Array.from({ length: Math.min(STEP, maxnumber - start + 1) }, (_, index) => start + index);
    const hashes = await Promise.all(numbers.map((number) => crypto.subtle.digest(algorithm, encoder.encode(salt + number))));
    const found = hashes.findIndex((hash) => hex(hash) === challenge);
    if (found >= 0) {
      const solution = { algorithm, challenge, number: numbers[found], salt, signature };
      document.cookie = place.dataset.name + "=" + btoa(JSON.stringify(solution)) + place.dataset.cookie;
      location.reload();
      return;
    }
  }
})();
