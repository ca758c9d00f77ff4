// One oral dose to each of S subjects, one sample at the dose and T after it: one compartment with
// first-order absorption; log-normal variation between subjects, not centred; normal noise.
//
// Subjects are solved in a loop, without `reduce_sum`: PyStan gives a chain a single thread.
functions {
  vector field(real t, vector y, real ka, real CL, real V) {
    real absorption = ka * y[1];
    return [-absorption, (absorption - CL * y[2]) / V]';
  }
}
data {
  int<lower=1> S;
  int<lower=1> T;
  vector<lower=0>[S] dose;
  array[S, T] real<lower=0> ts;
  vector[S] concentration_0;
  matrix[T, S] concentration;
}
transformed data {
  vector[T * S] observed = to_vector(concentration);
}
parameters {
  real m_ka;
  real m_cl;
  real m_v;
  real<lower=0> s_ka;
  real<lower=0> s_cl;
  real<lower=0> s_v;
  real<lower=0> sigma;
  vector[S] z_ka;
  vector[S] z_cl;
  vector[S] z_v;
}
model {
  vector[S] ka = exp(m_ka + s_ka * z_ka);
  vector[S] CL = exp(m_cl + s_cl * z_cl);
  vector[S] V = exp(m_v + s_v * z_v);
  matrix[T, S] mu;
  for (s in 1 : S) {
    array[T] vector[2] y = ode_rk45_tol(field, [dose[s], 0]', 0, ts[s], 1e-6, 1e-8, 10000,
                                        ka[s], CL[s], V[s]);
    mu[ : , s] = to_vector(y[ : , 2]);
  }

  m_ka ~ normal(0.5, 1);
  m_cl ~ normal(1, 1);
  m_v ~ normal(3.5, 1);
  s_ka ~ normal(0, 1);
  s_cl ~ normal(0, 1);
  s_v ~ normal(0, 1);
  sigma ~ normal(0, 1);
  z_ka ~ std_normal();
  z_cl ~ std_normal();
  z_v ~ std_normal();
  concentration_0 ~ normal(0, sigma);
  observed ~ normal(to_vector(mu), sigma);
}
