/*
 * spin.c
 *		Whether a short wait is to be spent awake or asleep.
 */
#include "c.h"

#include "policy/spin.h"

bool
dbopt_spin_worthwhile(DbOptSpin *spin)
{
	if (spin->left == 0)
		return true;
	spin->left--;
	return false;
}

void
dbopt_spin_note(DbOptSpin *spin, bool in_time)
{
	if (in_time)
		spin->pause /= 2;
	else
	{
		spin->pause = Min(2 * spin->pause + 1, DBOPT_SPIN_MAX_PAUSE);
		spin->left = spin->pause;
	}
}
