// Talk to the server. Every failure is an ApiError that says where on the page it belongs.

export class ApiError extends Error {
  /** place is "access", "topic", "mapconfig" or "map". */
  constructor(place, message) {
    super(message);
    this.place = place;
  }
}

async function answerOf(place, request) {
  let answer;
  try {
    answer = await request();
  } catch {
    throw new ApiError(place, "No answer. Is the address right, and are you connected?");
  }
  const text = await answer.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    body = null;
  }
  return { answer, body };
}

/** Ask the issuer for an access token by the client credentials grant. */
export async function fetchToken(tokenUrl, clientId, clientSecret) {
  const form = new URLSearchParams({
    grant_type: "client_credentials", client_id: clientId, client_secret: clientSecret,
  });
  const { answer, body } = await answerOf("access", () => fetch(tokenUrl, { method: "POST", body: form }));
  if (!answer.ok || !body?.access_token) {
    const reason = body?.error_description || body?.error || `status ${answer.status}`;
    throw new ApiError("access", `No token: ${reason}`);
  }
  return body.access_token;
}

/** Create a map; the answer is the contract's, with layergroupid and metadata. */
export async function createMap(token, topic, config) {
  const { answer, body } = await answerOf("map", () => fetch("/create-map", {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ topic, map: config }),
  }));
  if (answer.ok && body) return body;
  throw errorOf(answer, body);
}

/** Describe a stored map. */
export async function describeMap(layergroupid) {
  const { answer, body } = await answerOf("map", () => fetch(`/layergroup/${encodeURIComponent(layergroupid)}`));
  if (answer.ok && body) return body;
  const message = messageOf(answer, body);
  throw new ApiError("map", answer.status === 400 ? `This map does not exist, or no longer: ${message}` : message);
}

function messageOf(answer, body) {
  const message = body?.errors?.[0] ?? `The server answers ${answer.status}.`;
  const wait = answer.headers.get("Retry-After");
  return wait ? `${message} Try again in ${wait} seconds.` : message;
}

function errorOf(answer, body) {
  const context = body?.errors_with_context?.[0] ?? {};
  const message = messageOf(answer, body);
  if (answer.status === 401 || answer.status === 403) return new ApiError("access", message);
  if (context.member === "topic" || /datapoint of topic/.test(message)) return new ApiError("topic", message);
  if (answer.status >= 500) return new ApiError("map", message);
  const layer = context.layer ? `Layer ${context.layer.index} (${context.layer.id}): ` : "";
  return new ApiError("mapconfig", layer + message);
}
