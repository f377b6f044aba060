// Run turbo-carto on the cases of standard input; the data answer with fixed classes.
const turbocarto = require(process.argv[2]);
const { cases, answers } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const strategies = { headtails: "split", category: "exact" };
const datasource = {
  getName: () => "fixed",
  getRamp: (column, buckets, method, done) => {
    const answer = answers[method];
    if (!answer) return done(new Error(`Invalid method "${method}"`));
    const stats = method === "category" ? {} : { min_val: 1, max_val: 99, avg_val: 42 };
    done(null, { ramp: answer.slice(0, buckets), strategy: strategies[method], stats });
  },
};
Promise.all(
  cases.map((css) => new Promise((resolve) => {
    turbocarto(css, datasource, (error, result, metadata) =>
      resolve(error ? { error: error.message, context: error.context } : { css: result, metadata }));
  })),
).then((results) => process.stdout.write(JSON.stringify(results)));
