"""Small worlds searched exhaustively: every order of deliveries, timers, crashes and client steps on the production cores."""
