"use strict";
document.getElementById("page").textContent = "triocept";
