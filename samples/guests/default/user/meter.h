/* How much the meter measures; its partner needs to know as well. */
#ifndef METER_H
#define METER_H

#include "user.h"

#define BATCHES 200
#define CALLS_PER_BATCH 100
#define FAULTS 200
#define SWITCH_BATCHES 100
#define SWITCHES_PER_BATCH 20

#endif
