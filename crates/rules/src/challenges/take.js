window.tollgateSolved = (token) => {
  "use strict";
  const place = document.querySelector("[data-cookie]");
  document.cookie = place.dataset.name + "=" + token + place.dataset.cookie;
  location.reload();
};
