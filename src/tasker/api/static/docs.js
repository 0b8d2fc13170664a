"use strict";
// validatorUrl null: nothing is asked of any other server.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
