const url = new URL(process.env.BENCH_REDIS_URL);

export const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
