// Hares and lynx: Lotka-Volterra with log-normal noise. The first time is the initial time.
functions {
  vector field(real t, vector z, real birth, real predation, real death, real growth) {
    return [(birth - predation * z[2]) * z[1], (-death + growth * z[1]) * z[2]]';
  }
}
data {
  int<lower=2> N;
  array[N] real ts;
  vector<lower=0>[N] hare_pelts;
  vector<lower=0>[N] lynx_pelts;
}
parameters {
  real<lower=0> birth;
  real<lower=0> predation;
  real<lower=0> death;
  real<lower=0> growth;
  real<lower=0> hare0;
  real<lower=0> lynx0;
  real<lower=0> sigma_hare;
  real<lower=0> sigma_lynx;
}
model {
  array[N - 1] vector[2] z = ode_rk45_tol(field, [hare0, lynx0]', ts[1], ts[2 : N],
                                          1e-6, 1e-8, 100000,
                                          birth, predation, death, growth);
  vector[N] hare = append_row(hare0, to_vector(z[ : , 1]));
  vector[N] lynx = append_row(lynx0, to_vector(z[ : , 2]));

  birth ~ normal(1, 0.5);
  predation ~ normal(0.05, 0.05);
  death ~ normal(1, 0.5);
  growth ~ normal(0.05, 0.05);
  hare0 ~ lognormal(log(10), 1);
  lynx0 ~ lognormal(log(10), 1);
  sigma_hare ~ lognormal(-1, 1);
  sigma_lynx ~ lognormal(-1, 1);
  hare_pelts ~ lognormal(log(hare), sigma_hare);
  lynx_pelts ~ lognormal(log(lynx), sigma_lynx);
}
