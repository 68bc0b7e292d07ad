/* The world around the rules of migration: two nodes with one QEMU each, the stream between them, faults, and what must
   never happen. The rules of the nodes and the table of the caller are in rules.pml, made from the data of hvcore.

   Messages and receipts are bits that stay set: a request may arrive late, twice, or after its caller has ended. A node
   writes its journal in one step and acts in another, so that a crash is possible in between. */

#ifndef NJOBS
#define NJOBS 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef MODE
#define MODE M_live
#endif
#define M_live 0
#define M_paused 1
#define M_postcopy 2
#define M_cold 3

/* Job 0 moves from node 0 to node 1. Job 1 is the same again, or moves back. */
#ifdef BACK
#define SRC(j) (j)
#else
#define SRC(j) 0
#endif
#define DST(j) (1 - SRC(j))

#define DEAD 0
#define PAUSED 1
#define RUN 2

#define X_none 0
#define X_waiting 1
#define X_active 2
#define X_switchover 3
#define X_device 4
#define X_postcopy 5
#define X_cut 6      /* postcopy-paused */
#define X_completed 7
#define X_broken 8   /* failed or cancelled */

#ifdef TRACE
#define SHOW(name, i) printf("EV "); printf(name); printf(" %d | %d %d %d %d | %d %d %d %d | %d %d %d %d\n", i, s_st[0], s_pend[0], t_st[0], t_pend[0], s_st[NJOBS-1], s_pend[NJOBS-1], t_st[NJOBS-1], t_pend[NJOBS-1], q[0], x[0], q[1], x[1])
#else
#define SHOW(name, i) skip
#endif

#define EV(name, i) SHOW(name, i); changed[0] = true; changed[NJOBS - 1] = true

#include "words.pml"

/* Journals. */
byte s_st[NJOBS], s_pend[NJOBS], t_st[NJOBS], t_pend[NJOBS];
byte t_boot_of[NJOBS], s_boot_of[NJOBS];  /* what the caller read of each node */
bool s_began[NJOBS], t_began[NJOBS];
byte s_peer_boot[NJOBS], t_peer_boot[NJOBS];
/* The program and its transfer on each node. */
byte q[2], x[2];
byte sending[2];     /* 1 + the job that it sends its memory for */
bool connected[NJOBS];
bool switching[2];
byte landed[2];      /* 1 + the job that the program was launched for; 0: it was started afresh */
byte mirror[2];      /* of a source: 0 copying, 1 ended, 2 failed */
/* Nodes. */
byte boot[2];
byte word[2];        /* the last boot that an operator said is fenced */
bool booted[2];      /* autostart has not been tried in this boot */
/* What the caller planned. */
bool changed[NJOBS]; /* since the caller has read the nodes last */
bool planned[NJOBS], same_launch[NJOBS], refused[NJOBS], taken[NJOBS], aborted[NJOBS], ended[NJOBS];
byte answer = 0;     /* of the act in this very step: 1 done, 2 refused */
/* Only for properties. */
bool stale[2];       /* its memory is older than what has run elsewhere */
bool lossy[2];       /* it lacks memory that is lost */
bool incomplete[2];  /* its disk is not the whole copy */
bool killed;
byte faults = FAULTS;

/* ------------------------------------------------------------------------------------------------- conditions */

#define N_S(j) SRC(j)
#define N_T(j) DST(j)
#define OTHER(j) (NJOBS - 1 - (j))
#define OPEN_S(k) (S_OPEN(s_st[k]) || s_pend[k] != A_none)
#define OPEN_T(k) (T_OPEN(t_st[k]) || t_pend[k] != A_none)
#define ONLY(j) (NJOBS == 1 || (!OPEN_S(OTHER(j)) && !OPEN_T(OTHER(j))))

#define C_S_alive(j) (q[SRC(j)] != DEAD)
#define C_T_alive(j) (q[DST(j)] != DEAD)
#define C_S_dead(j) (q[SRC(j)] == DEAD)
#define C_T_dead(j) (q[DST(j)] == DEAD)
#define C_T_absent(j) (q[DST(j)] == DEAD)
#define C_S_only_job(j) ONLY_S(j)
#define C_T_only_job(j) ONLY_T(j)
#define HERE(k, n) ((SRC(k) == (n) && OPEN_S(k)) || (DST(k) == (n) && OPEN_T(k)))
#define ONLY_S(j) (NJOBS == 1 || !HERE(OTHER(j), SRC(j)))
#define ONLY_T(j) (NJOBS == 1 || !HERE(OTHER(j), DST(j)))
#define C_S_same_launch(j) same_launch[j]
#define C_S_settled(j) (s_pend[j] == A_none)
#define C_T_settled(j) (t_pend[j] == A_none)
#define C_S_cpus_run(j) (q[SRC(j)] == RUN)
#define C_T_cpus_run(j) (q[DST(j)] == RUN)
#define C_S_cpus_stopped(j) (q[SRC(j)] != RUN)
#define C_T_cpus_stopped(j) (q[DST(j)] != RUN)
#define C_S_under_way(j) (x[SRC(j)] >= X_active && x[SRC(j)] <= X_device)
#define C_S_at_switchover(j) (x[SRC(j)] == X_switchover)
#define C_S_completed(j) (x[SRC(j)] == X_completed)
#define C_S_switched(j) (x[SRC(j)] == X_postcopy || x[SRC(j)] == X_cut)
#define C_S_sent_all(j) (!C_S_switched(j))
#define C_S_broken(j) (x[SRC(j)] == X_broken)
#define C_T_has_all(j) ((MODE == M_cold && t_pend[j] == A_none) || (MODE != M_cold && q[DST(j)] != DEAD && (x[DST(j)] == X_completed || (MODE == M_postcopy && (x[DST(j)] == X_postcopy || x[DST(j)] == X_cut)))))
#ifdef MIRROR
#define C_S_mirrors_ended(j) (mirror[SRC(j)] == 1)
#else
#define C_S_mirrors_ended(j) true
#endif
#define C_S_precopy(j) (MODE == M_live || MODE == M_paused)
#define C_T_precopy(j) (MODE == M_live || MODE == M_paused)
#define C_S_postcopy(j) (MODE == M_postcopy)
#define C_T_postcopy(j) (MODE == M_postcopy)
#define C_S_cold(j) (MODE == M_cold)
#define C_T_cold(j) (MODE == M_cold)
#define C_S_not_cold(j) (MODE != M_cold)
#define C_T_not_cold(j) (MODE != M_cold)
#define C_T_act_over(j) (answer == 1 || (answer == 0 && (t_pend[j] == A_none || boot[DST(j)] != t_boot_of[j])))
#define C_T_act_refused(j) (answer == 2)
#define C_S_fenced(j) (word[DST(j)] > 0 && WORD_BOOT(word[DST(j)], s_peer_boot[j]))
#define C_T_fenced(j) (word[SRC(j)] > 0 && WORD_BOOT(word[SRC(j)], t_peer_boot[j]))
#ifdef ANY_WORD
#define WORD_BOOT(w, b) true
#else
#define WORD_BOOT(w, b) (w >= b)
#endif
#define C_S_loss_known(j) true

/* ------------------------------------------------------------------------------------- what must never happen */

inline run_on(n) {
  assert(q[1 - n] != RUN);    /* never two */
  assert(!stale[n]);          /* no time travel */
  assert(!incomplete[n]);     /* no half copy of a disk */
  assert(killed || !lossy[n]);/* no guest is lost while no program was killed */
  q[n] = RUN; stale[1 - n] = true
}

inline start_on(n) {          /* a cold start: new memory, the disk as it is */
  assert(q[1 - n] != RUN);
  q[n] = RUN; x[n] = X_none; landed[n] = 0; sending[n] = 0; switching[n] = false;
  stale[n] = false; lossy[n] = false; stale[1 - n] = true;
  if :: SRC(0) == n -> same_launch[0] = false :: else fi;
  if :: NJOBS == 2 && SRC(NJOBS - 1) == n -> same_launch[NJOBS - 1] = false :: else fi
}

inline end_on(n) { q[n] = DEAD; x[n] = X_none; switching[n] = false; sending[n] = 0; landed[n] = 0 }

/* A source whose transfer ends without success goes on as it was. */
inline resume(j) {
  x[SRC(j)] = X_broken; switching[SRC(j)] = false;
  if :: MODE != M_paused && q[SRC(j)] == PAUSED -> run_on(SRC(j)) :: else fi
}

/* ------------------------------------------------------------------------------------------------------ receipts */

#define GIVES_promised(j) true
#define GIVES_stopped(j) true
#ifdef RUNNING_IS_ALIVE
#define GIVES_running(j) (q[DST(j)] != DEAD)
#else
#define GIVES_running(j) true
#endif
#define GIVES_gone(j) true
#define GIVES_destroyed(j) true
#define GIVES_rolled_back(j) true

/* --------------------------------------------------------------------------------------------------------- acts */

inline made_S(j) { s_peer_boot[j] = t_boot_of[j] }
inline made_T(j) { t_peer_boot[j] = s_boot_of[j]; t_boot_of[j] = boot[DST(j)] }

inline first_S_cancel_transfer(j) {
  if
  :: MODE != M_cold && x[SRC(j)] >= X_active && x[SRC(j)] <= X_device -> resume(j)
  :: else
  fi
}
inline first_S_continue(j) {
  if
  :: mirror[SRC(j)] = 1; x[SRC(j)] = X_device
  :: faults > 0 -> faults--; mirror[SRC(j)] = 2; resume(j)
  fi
}

#include "rules.pml"

proctype S_act(byte j) {
  do
  :: atomic { s_pend[j] == A_send && MODE != M_cold && q[SRC(j)] != DEAD -> EV("S.act", j);
      s_pend[j] = A_none; x[SRC(j)] = X_active; sending[SRC(j)] = 1 + j; connected[j] = true; switching[SRC(j)] = false; mirror[SRC(j)] = 0;
      if :: MODE == M_paused -> q[SRC(j)] = PAUSED :: else fi }
  :: atomic { s_pend[j] == A_send && MODE == M_cold -> EV("S.act", j); s_pend[j] = A_none; end_on(SRC(j)) }
  :: atomic { s_pend[j] == A_cancel_and_run && !C_S_switched(j) -> EV("S.act", j); s_pend[j] = A_none;
      first_S_cancel_transfer(j);
      if :: q[SRC(j)] == PAUSED -> run_on(SRC(j)) :: else fi }
  :: atomic { s_pend[j] == A_start_afresh -> EV("S.act", j); s_pend[j] = A_none;
      if :: q[SRC(j)] != RUN -> start_on(SRC(j)) :: else fi }
  :: atomic { s_pend[j] == A_kill -> EV("S.act", j); s_pend[j] = A_none; assert(q[SRC(j)] != RUN); end_on(SRC(j)) }
  :: atomic { s_pend[j] == A_switch_postcopy && q[SRC(j)] != DEAD && C_S_under_way(j) -> EV("S.act", j);
      s_pend[j] = A_none; switching[SRC(j)] = true }
  od
}

#define CAN_RUN(j) (q[DST(j)] != DEAD || (MODE == M_cold && boot[DST(j)] == t_boot_of[j]))
proctype T_act(byte j) {
  do
  /* Only the operation that was asked to prepare can launch: never one of a later boot. */
  :: atomic { t_pend[j] == A_launch && q[DST(j)] == DEAD && boot[DST(j)] == t_boot_of[j] -> EV("T.act", j); t_pend[j] = A_none;
      q[DST(j)] = PAUSED; x[DST(j)] = X_waiting; landed[DST(j)] = 1 + j; stale[DST(j)] = true;
      lossy[DST(j)] = false; switching[DST(j)] = false;
      if :: SRC(0) == DST(j) -> same_launch[0] = false :: else fi;
      if :: NJOBS == 2 && SRC(NJOBS - 1) == DST(j) -> same_launch[NJOBS - 1] = false :: else fi }
  :: atomic { t_pend[j] == A_kill -> EV("T.act", j); t_pend[j] = A_none;
      assert(q[DST(j)] != RUN && (q[DST(j)] == DEAD || landed[DST(j)] == 1 + j)); end_on(DST(j)) }
  :: atomic { t_pend[j] == A_run && q[DST(j)] != RUN && CAN_RUN(j) -> EV("T.act", j);
      if
      :: MODE != M_cold -> run_on(DST(j))
      :: MODE == M_cold -> start_on(DST(j))
      fi }
  :: atomic { faults > 0 && t_pend[j] == A_run && q[DST(j)] != RUN && CAN_RUN(j) ->
      EV("T.refuse", j); faults--; answer = 2; look_T(j); answer = 0 }
  od
}

/* --------------------------------------------------------------------------------------------------- the stream */

#define OPENED(j) (q[SRC(j)] != DEAD && sending[SRC(j)] == 1 + j)
#define LANDS(j) (q[DST(j)] != DEAD && landed[DST(j)] == 1 + j && x[DST(j)] == X_waiting)
#define ARRIVED(j) (q[DST(j)] != DEAD && landed[DST(j)] == 1 + j && x[DST(j)] == X_completed)

proctype Stream(byte j) {
  do
  :: atomic { OPENED(j) && x[SRC(j)] == X_active && LANDS(j) && !switching[SRC(j)] ->
      EV("Q.device", j); q[SRC(j)] = PAUSED;
#ifdef MIRROR
      x[SRC(j)] = X_switchover
#else
      x[SRC(j)] = X_device
#endif
    }
#ifdef MIRROR_SILENT
  :: atomic { OPENED(j) && x[SRC(j)] == X_switchover -> x[SRC(j)] = X_device }  /* the job is left in place */
#endif
  :: atomic { OPENED(j) && x[SRC(j)] == X_device && LANDS(j) -> EV("Q.arrive", j);
      x[DST(j)] = X_completed; stale[DST(j)] = false; lossy[DST(j)] = false;
#ifdef MIRROR
      incomplete[DST(j)] = (mirror[SRC(j)] != 1)
#endif
    }
  :: atomic { OPENED(j) && x[SRC(j)] == X_device && ARRIVED(j) -> EV("Q.complete", j); x[SRC(j)] = X_completed }
  :: atomic { faults > 0 && OPENED(j) && x[SRC(j)] == X_device && ARRIVED(j) -> EV("Q.lost", j); faults--; resume(j) }
  :: atomic { faults > 0 && OPENED(j) && C_S_under_way(j) && LANDS(j) -> EV("Q.fail", j);
      faults--; end_on(DST(j)); resume(j) }
  :: atomic { OPENED(j) && C_S_under_way(j) && !LANDS(j) && !ARRIVED(j) -> EV("Q.away", j); resume(j) }
  /* A target whose stream ends too early exits. */
  :: atomic { LANDS(j) && connected[j] && (q[SRC(j)] == DEAD || x[SRC(j)] == X_broken) ->
      EV("Q.exit", j); end_on(DST(j)) }
#if MODE == M_postcopy
  :: atomic { OPENED(j) && x[SRC(j)] == X_active && LANDS(j) && switching[SRC(j)] -> EV("Q.switch", j);
      x[SRC(j)] = X_postcopy; q[SRC(j)] = PAUSED; x[DST(j)] = X_postcopy; stale[DST(j)] = false; lossy[DST(j)] = false }
  :: atomic { q[SRC(j)] != DEAD && x[SRC(j)] == X_postcopy && x[DST(j)] == X_postcopy -> EV("Q.pages", j);
      x[SRC(j)] = X_completed; x[DST(j)] = X_completed }
  :: atomic { q[SRC(j)] != DEAD && x[SRC(j)] == X_postcopy && q[DST(j)] == DEAD -> EV("Q.cut", j); x[SRC(j)] = X_cut; assert(killed) }
  :: atomic { x[DST(j)] == X_postcopy && q[DST(j)] != DEAD && x[SRC(j)] != X_postcopy && x[SRC(j)] != X_completed ->
      EV("Q.cut", j); x[DST(j)] = X_cut; lossy[DST(j)] = true; assert(killed) }
#endif
  od
}

/* ------------------------------------------------------------------------------------------------------- faults */

inline boot_again(n) {
  killed = true; end_on(n); boot[n]++; booted[n] = true;
#ifdef NO_FSYNC
  if :: DST(0) == n && t_st[0] == T_going -> t_st[0] = T_incoming; t_pend[0] = A_none :: else fi
#endif
}

/* Autostart goes by the newest entry of a job that the node took part in. Without one, the instance is defined on node 0. */
#define ENTRY(k, n) ((SRC(k) == (n) && s_st[k] != S_none && s_began[k]) || (DST(k) == (n) && t_st[k] != T_none && t_began[k]))
#define AUTO_BY(k, n) ((SRC(k) == (n) && AUTO_S(k)) || (DST(k) == (n) && AUTO_T(k)))
#ifdef RECKLESS_AUTOSTART
#define AUTOSTART(n) ((n) == 0)
#elif NJOBS == 1
#define AUTOSTART(n) ((ENTRY(0, n) && AUTO_BY(0, n)) || (!ENTRY(0, n) && (n) == 0))
#else
#define AUTOSTART(n) (!HERE(0, n) && !HERE(1, n) && ((ENTRY(1, n) && AUTO_BY(1, n)) || (!ENTRY(1, n) && ENTRY(0, n) && AUTO_BY(0, n)) || (!ENTRY(1, n) && !ENTRY(0, n) && (n) == 0)))
#endif

proctype Faults(byte n) {
  do
  :: atomic { faults > 0 && q[n] != DEAD -> EV("F.kill", n); faults--; killed = true; end_on(n) }
#ifdef REBOOTS
  :: atomic { faults > 0 -> EV("F.reboot", n); faults--; boot_again(n) }
  :: atomic { booted[n] -> EV("F.autostart", n); booted[n] = false;
      if
      :: AUTOSTART(n) && q[n] == DEAD -> start_on(n)
      :: else
      fi }
#endif
#ifdef FENCES
  :: atomic { faults > 0 -> EV("F.fence", n); faults--; word[n] = boot[n]; boot_again(n) }
#endif
  od
}

/* ---------------------------------------------------------------------------------------------------- the caller */

proctype Caller(byte j) {
  byte vs, vt, wish;
  if :: j == 1 -> ended[0] :: else fi;
  do
  :: atomic { faults > 0 && !taken[j] -> EV("C.taken", j); faults--; taken[j] = true }
  :: atomic { !aborted[j] && faults > 0 -> EV("C.abort", j); faults--; aborted[j] = true }
  :: atomic { changed[j] -> changed[j] = false; class_S(j); give_S(j);
       if :: vs == SC_ready && !planned[j] -> planned[j] = true; same_launch[j] = true; s_boot_of[j] = boot[SRC(j)] :: else fi;
       SHOW("C.read", j) };
     atomic { class_T(j); give_T(j);
       wish = W_go;
#if MODE == M_postcopy
       if :: wish = W_postcopy :: wish = W_go fi;
#endif
       if :: aborted[j] || (vs == SC_ready && (taken[j] || refused[j])) -> wish = W_abort :: else fi;
       ask(j) };
     if :: ended[j] -> break :: else fi
  od
}

#define OVER(j) ((s_st[j] == S_gone && t_st[j] == T_closed) || (s_st[j] == S_rolled_back && t_st[j] == T_destroyed)) && s_pend[j] == A_none && t_pend[j] == A_none
#define ONE ((q[0] == RUN) != (q[1] == RUN))

/* When nothing can happen any more, each migration has ended, and the instance runs unless a program of it was killed. */
proctype End() {
  atomic { timeout -> assert(OVER(0) && OVER((NJOBS - 1))); assert(killed || ONE) }
}

init {
  atomic {
    changed[0] = true; changed[NJOBS - 1] = true; q[0] = RUN; boot[0] = 1; boot[1] = 1;
    run Stream(0); run S_act(0); run T_act(0); start_nodes(0); run Caller(0);
#if NJOBS == 2
    run Stream(1); run S_act(1); run T_act(1); start_nodes(1); run Caller(1);
#endif
    run Faults(0); run Faults(1); run End()
  }
}
