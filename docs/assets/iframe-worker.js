// Copyright 2026 The lavit_hf authors. All rights reserved.
// SPDX-License-Identifier: Apache-2.0
// Search of a site that is read from the disk: browsers start no workers there, so an iframe takes the place of one.
if (location.protocol === "file:") {
  const SCOPE = `
    var importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), { src: url, onload: done, onerror: failed });
      document.head.append(script);
    })), Promise.resolve());
    var postMessage = data => frameElement.dispatchEvent(new MessageEvent("answer", { data }));
  `;
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = Object.assign(document.createElement("iframe"), { hidden: true });
      this.frame.addEventListener("answer", ({ data }) => this.dispatchEvent(new MessageEvent("message", { data })));
      document.body.append(this.frame);
      const inside = this.frame.contentDocument;
      inside.open();
      const program = new URL(url, document.baseURI).href;
      inside.write(`<base href="${program}"><script>${SCOPE}<\/script><script src="${program}"><\/script>`);
      inside.close();
      this.ready = new Promise(resolve => { this.frame.contentWindow.addEventListener("load", resolve); });
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() { this.frame.remove(); }
  };
}
